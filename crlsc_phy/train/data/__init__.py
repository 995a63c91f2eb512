"""Data sets: fetched, checked, decoded, split, and cut into crops."""

from crlsc_phy.train.data.catalogue import assemble
from crlsc_phy.train.data.crops import CropSampler, fixed_crops
from crlsc_phy.train.data.imageset import ImageSet
from crlsc_phy.train.data.listed import load_photos
from crlsc_phy.train.data.pictograms import OBJECT_CATEGORIES, Pictograms, load_pictograms
from crlsc_phy.train.data.sources import open_images
from crlsc_phy.train.data.store import read_table

__all__ = [
    "OBJECT_CATEGORIES",
    "CropSampler",
    "ImageSet",
    "Pictograms",
    "assemble",
    "fixed_crops",
    "load_photos",
    "load_pictograms",
    "open_images",
    "read_table",
]
