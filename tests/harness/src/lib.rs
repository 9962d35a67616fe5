//! A cluster in network namespaces, images from local files, packet builders, fakes.
