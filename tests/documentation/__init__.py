"""The documentation: pages made from the code, and what tests need to run the examples in all pages."""
