//! What can go wrong between the API and the tables.

use skep_maps::MapsError;

/// Keeping the tables up to date failed.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// The tables could not be read when they were taken over.
    #[error("cannot take over the service tables")]
    Adopt(#[source] MapsError),
    /// A difference could not be written; the tables are read again before the next one.
    #[error("cannot write {entries} entries of the service tables")]
    Apply {
        /// How many entries the difference had.
        entries: usize,
        /// Why.
        source: MapsError,
    },
    /// A metric could not be registered: another one has its name.
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
    /// The thread that writes the tables ended without a result.
    #[error("writing the service tables was cut off")]
    Interrupted(#[from] tokio::task::JoinError),
}
