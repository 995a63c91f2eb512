"""Baselines for the semantic chains: separate coding, DeepJSCC, and links of bits."""
