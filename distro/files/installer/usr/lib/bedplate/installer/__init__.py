"""The installer: writes the image on this medium to a disk, asked at the console or by an answer file."""
