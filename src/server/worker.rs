//! A worker: one thread with a runtime of its own, told what to serve.

use std::{io, sync::Arc, thread::JoinHandle};

use tokio::sync::{mpsc, oneshot};

use crate::{
    gateway::DataPlane,
    listener::{self, Drain, Listener},
};

/// A thread that carries requests.
#[derive(Debug)]
pub(super) struct Worker {
    commands: mpsc::UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

/// A command to a worker.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve this socket until the listener drains.
    Serve { socket: std::net::TcpListener, listener: Arc<Listener>, drain: Drain },
    /// Drop the previous rules: there are new ones, and without a request nothing else would notice.
    Refresh,
    /// Answer: the supervisor wants to know that the worker carries requests.
    Answer(oneshot::Sender<()>),
}

impl Worker {
    pub(super) fn spawn(gateway: DataPlane, index: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (commands, mut told) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            runtime.block_on(async {
                let mut serving = tokio::task::JoinSet::new();
                while let Some(command) = told.recv().await {
                    match command {
                        Command::Serve { socket, listener, drain } => {
                            serving.spawn(listener::serve(socket, listener, gateway.clone(), drain));
                        }
                        Command::Refresh => drop(gateway.snapshot()),
                        Command::Answer(answer) => drop(answer.send(())),
                    }
                }
                while serving.join_next().await.is_some() {}
            });
        })?;
        Ok(Self { commands, thread })
    }

    pub(super) fn refresh(&self) {
        self.tell(Command::Refresh);
    }

    pub(super) fn ask(&self) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Answer(answer));
        answered
    }

    pub(super) fn tell(&self, command: Command) {
        // A worker ends only when its commands do; one that panicked has said so.
        let _ = self.commands.send(command);
    }

    /// Waits until everything that the worker serves has drained.
    pub(super) fn finish(self) {
        drop(self.commands);
        let _ = self.thread.join();
    }
}
