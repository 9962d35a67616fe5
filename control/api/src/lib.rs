//! The Kubernetes API as data: kinds, schema, defaults, validation, patches, selectors and tables.
//!
//! Pure: no I/O, no clock, no randomness; it knows neither HTTP nor the store.
