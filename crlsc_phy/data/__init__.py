"""Picture sets: fetching, checking, decoding, splits and crops."""

from crlsc_phy.data.catalogue import assemble
from crlsc_phy.data.crops import CropSampler, fixed_crops
from crlsc_phy.data.imageset import ImageSet
from crlsc_phy.data.listed import load_photos
from crlsc_phy.data.pictograms import OBJECT_CATEGORIES, Pictograms, load_pictograms
from crlsc_phy.data.sources import open_images, opened_once
from crlsc_phy.data.store import read_table

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
    "opened_once",
    "read_table",
]
