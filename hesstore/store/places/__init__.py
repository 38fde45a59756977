"""The places where a store can lie: a folder, a zip file, or an S3 bucket; and the claims on its runs there."""
