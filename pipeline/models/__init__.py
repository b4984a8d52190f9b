"""Networks: the backbone, the class-activation classifier and the segmentation."""
