//! What the client commands share: finding the daemon and asking it.
