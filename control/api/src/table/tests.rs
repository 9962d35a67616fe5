//! Objects and the rows that they become.
