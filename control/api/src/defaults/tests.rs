//! Objects and what they become.
