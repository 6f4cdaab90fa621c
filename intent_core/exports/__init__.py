"""Reading labelled exports: records, or rejections with a reason."""
