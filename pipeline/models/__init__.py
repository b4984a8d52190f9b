"""Networks: backbones, classifiers, the boundary network and the segmentation network."""
