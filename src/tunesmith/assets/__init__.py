"""What jobs read and leave: files, registered datasets, base models and produced models."""
