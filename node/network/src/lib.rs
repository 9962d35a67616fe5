//! Pod network: CNI, address management, veth pairs, routes between nodes.
