"""The trainer: data sets, the stages of a recipe, and the export of a bundle."""
