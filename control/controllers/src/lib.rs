//! The controllers: one folder per kind.
