"""Knowledge bases: the air code that is transmitted, and the stores of named entries that it is matched against."""

from crlsc_phy.knowledge.air_code import AirCode
from crlsc_phy.knowledge.base import Entry, Hit, Hits, KnowledgeSource, Repair
from crlsc_phy.knowledge.local import KnowledgeBase
from crlsc_phy.knowledge.transfer import Merged, Parcel

__all__ = ["AirCode", "Entry", "Hit", "Hits", "KnowledgeBase", "KnowledgeSource", "Merged", "Parcel", "Repair"]
