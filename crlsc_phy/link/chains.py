"""The chains that a sweep may name, each in a module that is imported when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from crlsc_phy.errors import SweepError
from crlsc_phy.link.chain import Chain, Scene

__all__ = ["CHAINS", "ChainKind", "find_chain"]


@dataclass(frozen=True)
class ChainKind:
    """A kind of chain.

    Attributes:
        module: Where it is.
        stem: Its options are ``STEMOptions`` there, its chain is ``STEMChain``.
        about: What it sends.
        measure: Of :data:`crlsc_phy.link.measures.MEASURES`: the one that says how good it is.
        images: Whether it sends pictures, and so needs a bundle that knows what they mean.
    """

    module: str
    stem: str
    about: str
    measure: str = "psnr_db"
    images: bool = True

    def options(self) -> type[Any]:
        """The dataclass of its options.

        Raises:
            SweepError: If a library that it needs is not installed.
        """
        return self._part("Options")

    def make(self, options: Any, scene: Scene) -> Chain:
        """A chain, loaded and ready.

        Raises:
            CrlscError: If options, scene and bundle do not go together.
        """
        chain: Chain = self._part("Chain")(options, scene)
        return chain

    def _part(self, what: str) -> type[Any]:
        try:
            part: type[Any] = getattr(import_module(self.module), f"{self.stem}{what}")
        except ModuleNotFoundError as error:
            raise SweepError(
                f"{error.name} is not installed; pip install 'crlsc-phy[train]' or run make setup"
            ) from None
        return part


CHAINS = {
    "coded": ChainKind("crlsc_phy.link.coded", "Coded", "random bits, uncoded or by 5G LDPC", "bler", images=False),
    "digital": ChainKind("crlsc_phy.link.semantic", "Digital", "pictures: air code and tokens, by 5G LDPC"),
    "semantic": ChainKind("crlsc_phy.link.semantic", "Semantic", "what pictures mean: the air code alone", "label"),
    "analog": ChainKind("crlsc_phy.link.semantic", "Analog", "pictures: air code by 5G LDPC, detail as analog symbols"),
    "hybrid": ChainKind("crlsc_phy.link.semantic", "Hybrid", "pictures: digital or analog, whichever promises more"),
    "separate": ChainKind("crlsc_phy.link.separate", "Separate", "pictures: JPEG, WebP, AVIF or HEIC, by 5G LDPC"),
    "deepjscc": ChainKind("crlsc_phy.link.deepjscc", "DeepJscc", "pictures: learned joint source and channel code"),
}


def find_chain(name: str) -> ChainKind:
    """The kind called ``name``.

    Raises:
        SweepError: If there is none.
    """
    if name not in CHAINS:
        raise SweepError(f"no chain {name!r}; choose one of {', '.join(CHAINS)}")
    return CHAINS[name]
