"""The documentation: the generated parts of its pages, and tests of its examples, names and links."""
