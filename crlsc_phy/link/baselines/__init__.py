"""What the semantic links are compared with: separate coding, DeepJSCC, and links of bits."""
