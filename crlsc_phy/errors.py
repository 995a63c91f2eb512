"""The exceptions a user may see: one family, a child a room.

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
]


class CrlscError(Exception):
    """Base of every error that the user's input can cause."""


class FrameError(CrlscError):
    """A semantic frame is cut short, damaged, or made by a version we do not read."""


class BundleError(CrlscError):
    """A bundle is incomplete, damaged, or made by a newer version."""


class KnowledgeBaseError(CrlscError):
    """A knowledge base is damaged, or is not the one that a frame or a bundle names."""


class ImageError(CrlscError):
    """An image cannot be read, or has a shape or type that the codec does not take."""


class ModemError(CrlscError):
    """A numerology, an MCS or a sample buffer that the modem cannot use."""


class ChannelError(CrlscError):
    """A channel model, a setting of it or a CIR file that cannot be used."""


class ServiceError(CrlscError):
    """A service cannot be reached, is busy or refuses; or what another program has sent cannot be read."""


class RadioError(CrlscError):
    """A radio is not there, or does not take a setting."""


class DataError(CrlscError):
    """A training set is missing, empty, or not the one that its checksum names."""


class TrainingError(CrlscError):
    """A recipe is wrong, or a stage lacks what an earlier stage makes."""


class SweepError(CrlscError):
    """A sweep's configuration, or a folder of results, that cannot be used."""


def brief(error: Exception, longest: int = 200) -> str:
    """What a library says in many lines, in a part of one."""
    words = " ".join(str(error).split())
    return words if len(words) <= longest else f"{words[:longest]}..."
