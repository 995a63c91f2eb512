"""Knowledge bases: the air code that is transmitted, and the stores of named entries that it is matched against."""

import os

import faiss

from crlsc_phy.knowledge.air_code import AirCode
from crlsc_phy.knowledge.base import Entry, Hit, Hits, KnowledgeSource, Repair
from crlsc_phy.knowledge.local import KnowledgeBase
from crlsc_phy.knowledge.transfer import Merged, Parcel

__all__ = ["AirCode", "Entry", "Hit", "Hits", "KnowledgeBase", "KnowledgeSource", "Merged", "Parcel", "Repair"]

# OpenMP's threads do not survive a fork: a child that faiss made wait for them would wait forever.
os.register_at_fork(after_in_child=lambda: faiss.omp_set_num_threads(1))
