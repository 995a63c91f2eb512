"""The exceptions that a user may see: one family, a child for each room.

Every message is one line and says what is wrong, where, and what to do about it. Commands print it and exit
with status 2; GNU Radio blocks log it, count it and keep running.
"""

__all__ = [
    "BundleError",
    "ChannelError",
    "CrlscError",
    "DataError",
    "FrameError",
    "ImageError",
    "KnowledgeBaseError",
    "ModemError",
    "RadioError",
    "ServiceError",
    "SweepError",
    "TrainingError",
    "brief",
    "safe_text",
]


class CrlscError(Exception):
    """Base of all errors that the user's input can cause."""


class FrameError(CrlscError):
    """A semantic frame is cut short, damaged, or of a version that this program does not read."""


class BundleError(CrlscError):
    """A bundle is incomplete, damaged, or made by a newer version."""


class KnowledgeBaseError(CrlscError):
    """A knowledge base is damaged, or is not the one that a frame or a bundle names."""


class ImageError(CrlscError):
    """An image cannot be read, or has a shape or type that the codec does not take."""


class ModemError(CrlscError):
    """A numerology, an MCS or a sample buffer that the modem cannot use."""


class ChannelError(CrlscError):
    """A channel model, a channel setting or a CIR file that cannot be used."""


class ServiceError(CrlscError):
    """A service cannot be reached, is busy or refuses, or the message of another program cannot be read."""


class RadioError(CrlscError):
    """A radio is missing or does not take a setting."""


class DataError(CrlscError):
    """A training set is missing, empty, or not the one that its checksum names."""


class TrainingError(CrlscError):
    """A recipe is wrong, or a stage lacks the output of an earlier stage."""


class SweepError(CrlscError):
    """A sweep's configuration, or a folder of results, that cannot be used."""


def brief(error: BaseException | str, longest: int = 200) -> str:
    """Return the text of an error on one line, cut after ``longest`` characters."""
    words = safe_text(" ".join(str(error).split()))
    return words if len(words) <= longest else f"{words[:longest]}..."


def safe_text(text: str) -> str:
    r"""Return ``text`` with lone surrogates escaped, so that it can be encoded as UTF-8.

    Python reads the bytes of a file name that is not UTF-8 as lone surrogates, and JSON may hold them.

    >>> safe_text("caf\udce9.png")
    'caf\\udce9.png'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
