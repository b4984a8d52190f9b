"""Reading and writing: arrays, tables, images, user files and downloads."""
