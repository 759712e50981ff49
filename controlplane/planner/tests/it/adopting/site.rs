//! A host of the model, with the rules of `hostrun`.

/// What one host has of one node: its owner's home and ours, with the rules of `hostrun`.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Whether its key's file has its name in its owner's home.
    pub(super) key_here: bool,
    /// Generation of the mark, and whether it is taken.
    pub(super) mark: Option<(u64, bool)>,
    /// How far its owner's home has signed.
    pub(super) theirs: u64,
    pub(super) owner_runs: bool,
    /// Ours: first generation that may start, the one that was started last, how far it has signed.
    pub(super) fence: u64,
    pub(super) started: u64,
    pub(super) ours: Option<u64>,
    pub(super) runs: bool,
    /// How far the key has signed anywhere.
    pub(super) signed: u64,
}

impl Site {
    fn newest(&self) -> u64 {
        self.fence.max(self.started)
    }

    fn fence(&mut self, generation: u64) -> Option<()> {
        (self.newest() <= generation).then_some(())?;
        (self.fence, self.runs) = (generation, false);
        Some(())
    }

    fn marked_for(&self, generation: u64) -> Option<()> {
        self.mark.is_none_or(|(marked, _)| marked <= generation).then_some(())
    }

    /// `None` while the owner's process runs.
    pub(super) fn seize(&mut self, generation: u64, stop: bool) -> Option<()> {
        self.fence(generation)?;
        self.marked_for(generation)?;
        self.mark = Some((generation, true));
        self.key_here = false;
        if stop {
            self.owner_runs = false;
        }
        (!self.owner_runs).then_some(())
    }

    pub(super) fn take(&mut self, generation: u64) -> Option<()> {
        let is_taken = self.fence == generation && self.mark == Some((generation, true));
        (is_taken && self.started == 0 && !self.owner_runs).then_some(())?;
        self.ours = Some(self.theirs);
        Some(())
    }

    pub(super) fn start(&mut self, generation: u64) -> Option<()> {
        (self.newest() <= generation && self.ours.is_some()).then_some(())?;
        (self.started, self.runs) = (generation, true);
        Some(())
    }

    /// Cut off after so many of its parts; `None` if it was refused or cut off. `was_started`: by the platform's record.
    pub(super) fn give_back(&mut self, generation: u64, was_started: bool, parts: u8) -> Option<()> {
        self.fence(generation)?;
        self.marked_for(generation)?;
        let was_started = was_started || self.started > 0;
        match self.mark {
            None => (!was_started && self.ours.is_none()).then_some(())?,
            Some((_, true)) if was_started => {
                // Ours is the only one that has what was signed since: it must be whole, and nobody be in the way.
                (!self.owner_runs && self.started > 0).then_some(())?;
                (parts > 0).then_some(())?;
                self.theirs = self.ours?;
            }
            Some((_, true)) => {}
            Some((marked, false)) => {
                let ran_since =
                    if self.started > 0 { self.started > marked } else { was_started && self.ours.is_some() };
                (marked == generation || !ran_since).then_some(())?;
            }
        }
        (parts > 1).then_some(())?;
        self.mark = Some((generation, false));
        (parts > 2).then_some(())?;
        self.key_here = true;
        (parts > 3).then_some(())?;
        self.ours = None;
        (parts > 4).then_some(())?;
        (self.fence, self.started) = (0, 0);
        Some(())
    }
}
