//! Packet tables on the real kernel.
