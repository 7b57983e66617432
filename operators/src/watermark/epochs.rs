//! Epochs as they become complete on an operator's inputs.

use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use timely::communication::Pull;
use timely::dataflow::channels::Message;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::InputHandleCore;
use timely::progress::frontier::MutableAntichain;

use super::{Mark, Watermarks};

/// How far an operator of this worker has come; to be looked at by others of the same worker.
#[derive(Clone)]
pub struct Progress {
    epoch: Rc<Cell<u64>>,
    watermarks: Rc<RefCell<Watermarks>>,
}

impl Progress {
    pub fn new(watermarks: Watermarks) -> Self {
        Progress { epoch: Rc::default(), watermarks: Rc::new(RefCell::new(watermarks)) }
    }

    /// The last complete epoch; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// The watermarks as of [`Progress::epoch`].
    pub fn watermarks(&self) -> Ref<'_, Watermarks> {
        self.watermarks.borrow()
    }
}

/// Epochs whose marks have come, in order: an operator's view of the watermarks.
///
/// Every epoch has a mark, whatever rows it has, so its capability is the one to send under.
pub struct CompleteEpochs {
    progress: Progress,
    waiting: BTreeMap<u64, (Capability<u64>, Vec<Mark>)>,
}

impl CompleteEpochs {
    pub fn new(watermarks: Watermarks) -> Self {
        Self::shown(Progress::new(watermarks))
    }

    /// Epochs whose completion is seen in `progress`.
    pub fn shown(progress: Progress) -> Self {
        CompleteEpochs { progress, waiting: BTreeMap::new() }
    }

    /// Takes the marks that have come, and for each epoch the capability for output `port`.
    pub fn read<P>(&mut self, marks: &mut InputHandleCore<u64, Vec<Mark>, P>, port: usize)
    where
        P: Pull<Message<u64, Vec<Mark>>>,
    {
        marks.for_each(|capability, container| {
            let Some(retained) = capability.retain_least(port) else { return };
            let epoch = *retained.time();
            self.waiting.entry(epoch).or_insert_with(|| (retained, Vec::new())).1.append(container);
        });
    }

    /// The next epoch, if it is complete; the watermarks are then as of it.
    pub fn next(&mut self, complete: impl Fn(&u64) -> bool) -> Option<Capability<u64>> {
        let entry = self.waiting.first_entry().filter(|entry| complete(entry.key()))?;
        let (capability, marks) = entry.remove();
        let mut watermarks = self.progress.watermarks.borrow_mut();
        marks.into_iter().for_each(|mark| watermarks.apply(mark));
        self.progress.epoch.set(*capability.time());
        Some(capability)
    }

    pub fn watermarks(&self) -> Ref<'_, Watermarks> {
        self.progress.watermarks()
    }
}

/// The batches of each epoch, until it is complete on them and on marks.
pub struct BatchesByEpoch<B> {
    epochs: CompleteEpochs,
    arrived: BTreeMap<u64, Vec<B>>,
}

impl<B> BatchesByEpoch<B> {
    pub fn new(epochs: CompleteEpochs) -> Self {
        BatchesByEpoch { epochs, arrived: BTreeMap::new() }
    }

    pub fn hold(&mut self, epoch: u64, batch: B) {
        self.arrived.entry(epoch).or_default().push(batch);
    }

    /// As [`CompleteEpochs::read`].
    pub fn read<P>(&mut self, marks: &mut InputHandleCore<u64, Vec<Mark>, P>, port: usize)
    where
        P: Pull<Message<u64, Vec<Mark>>>,
    {
        self.epochs.read(marks, port);
    }

    /// The next epoch's batches, in the order they came, if none of the inputs, whose `frontiers`
    /// these are, will bring more of it; the watermarks are then as of it.
    pub fn next(
        &mut self,
        frontiers: [&MutableAntichain<u64>; 2],
    ) -> Option<(Capability<u64>, Vec<B>)> {
        let complete = |epoch: &u64| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
        let capability = self.epochs.next(complete)?;
        let batches = self.arrived.remove(capability.time()).unwrap_or_default();
        Some((capability, batches))
    }

    pub fn watermarks(&self) -> Ref<'_, Watermarks> {
        self.epochs.watermarks()
    }
}
