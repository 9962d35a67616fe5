//! The programs inside the demo and test images. Standard library only: they are linked statically.
