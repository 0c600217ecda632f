//! Tries every way to see every moment, for `tracer doctor`.
//!
//! In: options and the embedded object. Out: for each way, in order, whether the kernel accepts it,
//! or its own words. Each way is attached and detached again before the next; nothing stays.

use super::{
    hooks::{self, HookMode, Moment, StandIn, Way},
    inventory, iterator,
    loader::{self, Attacher, Groundwork, LoadError, Options, Refusal},
};

/// One way, tried.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Which.
    pub way: Way,
    /// What the kernel refused, if it did.
    pub refusal: Option<Refusal>,
}

/// A moment, and what became of each way to see it.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// Which moment.
    pub moment: Moment,
    /// In the order in which the loader tries them.
    pub trials: Vec<Trial>,
}

impl Surveyed {
    /// The way that the loader takes: the first that works.
    pub fn chosen(&self) -> Option<Way> {
        let mut trials = self.trials.iter();
        trials
            .find(|trial| trial.refusal.is_none())
            .map(|trial| trial.way)
    }
}

/// What the kernel offers.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Every moment, in the order in which they are attached.
    pub moments: Vec<Surveyed>,
    /// How many processes the task iterator shows, or why it does not.
    pub task_iterator: Result<usize, String>,
}

/// Tries everything that `options` allow. Nothing but a refusal of the object as a whole ends it early.
pub fn survey(options: &Options) -> Result<Survey, LoadError> {
    let Groundwork {
        btf,
        aya_btf,
        loader,
    } = Groundwork::lay()?;
    let mut ebpf = loader::load_object(options, &btf, loader)?;
    let mut attacher = Attacher::new(&mut ebpf, &btf, &aya_btf);
    let moments = attacher.try_all(options);
    let task_iterator =
        iterator::load(&mut ebpf, &aya_btf, "existing_tasks", "task").and_then(|iterator| {
            let inventory =
                inventory::from_iterator(iterator).map_err(|error| error.to_string())?;
            Ok(inventory.processes.len())
        });
    Ok(Survey {
        moments,
        task_iterator,
    })
}

impl Attacher<'_> {
    fn try_all(&mut self, options: &Options) -> Vec<Surveyed> {
        let mut stand_in = StandIn::default();
        let mut surveyed = Vec::new();
        for moment in Moment::wanted(options.tls) {
            let trials = self.try_moment(moment, stand_in, options.mode);
            let found = Surveyed { moment, trials };
            stand_in.learn(moment, found.chosen().as_ref());
            surveyed.push(found);
        }
        surveyed
    }

    fn try_moment(
        &mut self,
        moment: Moment,
        stand_in: StandIn,
        mode: Option<HookMode>,
    ) -> Vec<Trial> {
        hooks::ways(moment, stand_in)
            .iter()
            .filter(|way| way.is_allowed(mode))
            .map(|&way| {
                let refusal = self.attach_way(&way).err();
                for hook in way.hooks {
                    self.unload(hook);
                }
                Trial { way, refusal }
            })
            .collect()
    }
}
