"""What two or more stages share: labels, images, geometry, boxes, data sets, settings and run folders."""
