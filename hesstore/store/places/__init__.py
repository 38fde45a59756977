"""The places where a store can lie: a folder, a zip file, or an S3 bucket; and the claims on its runs there.

It imports only :mod:`hesstore.config`, :mod:`hesstore.errors`, :mod:`hesstore.durable_files` and the schema.
"""
