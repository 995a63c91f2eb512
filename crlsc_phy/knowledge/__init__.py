"""Knowledge bases: the air code that is transmitted, and the store of named entries that it is matched against."""

from crlsc_phy.knowledge.air_code import AirCode
from crlsc_phy.knowledge.local import Entry, Hit, KnowledgeBase

__all__ = ["AirCode", "Entry", "Hit", "KnowledgeBase"]
