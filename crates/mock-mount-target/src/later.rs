//! Events that happen at a time, whatever clients do.

use std::sync::Arc;

use crate::link::LinkSettings;
use crate::memory::Memory;
use crate::plan::Event;
use crate::shared::Shared;

/// What an event may touch.
pub(crate) struct Later {
    pub shared: Arc<Shared>,
    pub memory: Option<Arc<Memory>>,
}

impl Later {
    /// Lets the event happen. What concerns the server in memory does nothing where another one serves.
    pub(crate) async fn happen(&self, event: Event) {
        tracing::info!(?event, "as the plan says");
        match event {
            Event::CutAll => self.shared.connections.cut_all(),
            Event::Rtt(rtt) => {
                self.shared.link.set(LinkSettings { rtt, ..self.shared.link.settings() });
                self.with_memory(|memory| memory.with_server(|server| server.referee_mut().set_rtt(rtt)));
            }
            Event::Restart(stable_storage) => {
                self.with_memory(|memory| {
                    let now = memory.now();
                    memory.with_server(|server| server.restart(now, stable_storage));
                });
                self.shared.connections.cut_all();
            }
            Event::NewWriteVerifier => self.with_memory(|memory| {
                let now = memory.now();
                memory.with_server(|server| server.lose_unstable(now));
            }),
            Event::DropSessions => {
                self.with_memory(|memory| memory.with_server(crate::nfs::Server::drop_sessions));
            }
            Event::Revoke(why) => {
                self.with_memory(|memory| memory.with_server(|server| server.revoke_all_state(why)));
            }
            Event::Recall => self.with_memory(|memory| {
                let now = memory.now();
                memory.with_server(|server| server.recall_delegations(now));
            }),
            Event::RecallUnknown => {
                self.with_memory(|memory| memory.with_server(crate::nfs::Server::recall_unknown));
            }
            Event::S3(path, change) => self.with_memory(|memory| {
                let now = memory.now();
                if let Err(error) = memory.with_server(|server| server.s3_change(&path, &change, now)) {
                    tracing::warn!(%path, %error, "the S3 side cannot do what the plan says");
                }
            }),
        }
        if let Some(memory) = &self.memory {
            memory.send_callbacks().await;
        }
    }

    fn with_memory(&self, act: impl FnOnce(&Memory)) {
        if let Some(memory) = &self.memory {
            act(memory);
        }
    }
}
