//! Container runtime over CRI, and its events, behind a trait with a fake.
