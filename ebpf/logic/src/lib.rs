//! Packet parsing, checksums, backend choice and verdicts, generic over the address family.
#![no_std]
