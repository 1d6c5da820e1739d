use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::gossip;

/// What one user of the cluster has written so far. Hand its token on with a call to any node: a read then reflects all
/// of it, and a write wins over it. Tasks may share one.
#[derive(Default)]
pub struct Session(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    clock: u64,
    sequences: BTreeMap<(String, u64), u64>,
}

impl Session {
    /// Takes in the token of a write. Dots become "all up to here of that origin", which asks for a little more than
    /// what was written, and keeps the token as short as the cluster has nodes.
    pub fn merge(&self, token: Option<gossip::Session>) {
        let Some(token) = token else { return };
        let mut seen = self.0.lock().unwrap();
        seen.clock = seen.clock.max(token.clock);
        for dot in token.dots.into_iter().chain(token.complete) {
            let origin = dot.origin.unwrap_or_default();
            let sequence = seen.sequences.entry((origin.node_id, origin.generation)).or_default();
            *sequence = dot.sequence.max(*sequence);
        }
    }

    pub fn token(&self) -> gossip::Session {
        let seen = self.0.lock().unwrap();
        let complete = seen
            .sequences
            .iter()
            .map(|((node_id, generation), &sequence)| gossip::Dot {
                origin: Some(gossip::Origin {
                    node_id: node_id.clone(),
                    generation: *generation,
                }),
                sequence,
            });
        gossip::Session {
            clock: seen.clock,
            complete: complete.collect(),
            ..Default::default()
        }
    }
}
