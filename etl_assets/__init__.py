"""What the data is: manifests, their transforms, and the graph that is built from them."""
