//! Images and programs that nobody refers to any more, kept to be used again: on a host whose
//! processes come and go, new ones then need no new memory.

use std::sync::Arc;

use super::cause::Cause;
use super::image::{Image, Parent, Program};

/// How many of each are kept.
const KEPT: usize = 4096;

/// What is left of processes that are forgotten.
#[derive(Debug, Default)]
pub(super) struct Spare {
    images: Vec<Arc<Image>>,
    programs: Vec<Arc<Program>>,
    causes: Vec<Arc<Cause>>,
    /// What images run that wait here.
    nothing: Arc<Program>,
}

impl Spare {
    /// Shares an image.
    pub(super) fn image(&mut self, image: Image) -> Arc<Image> {
        share(&mut self.images, image)
    }

    /// Shares a program.
    pub(super) fn program(&mut self, program: Program) -> Arc<Program> {
        share(&mut self.programs, program)
    }

    /// Shares a cause.
    pub(super) fn cause(&mut self, cause: Cause) -> Arc<Cause> {
        share(&mut self.causes, cause)
    }

    /// Takes a cause that is no longer needed here. If nobody else needs it, it is kept, and so are those
    /// before it and the programs that they name.
    pub(super) fn retire_cause(&mut self, cause: Arc<Cause>) {
        let mut next = Some(cause);
        while let Some(mut cause) = next.take()
            && let Some(contents) = Arc::get_mut(&mut cause)
        {
            next = contents.before.take();
            let program = &mut contents.server.program;
            let program = std::mem::replace(program, Arc::clone(&self.nothing));
            keep(&mut self.causes, cause);
            self.retire_program(program);
        }
    }

    /// Takes an image that is no longer needed here. If nobody else needs it, it is kept, and so are
    /// its program and its ancestors.
    pub(super) fn retire(&mut self, image: Arc<Image>) {
        let mut next = Some(image);
        while let Some(mut image) = next.take()
            && let Some(contents) = Arc::get_mut(&mut image)
        {
            contents.present_parent = None;
            if let Some(cause) = contents.cause.take() {
                self.retire_cause(cause);
            }
            let program = std::mem::replace(&mut contents.program, Arc::clone(&self.nothing));
            if let Parent::Known(_, parent) =
                std::mem::replace(&mut contents.parent, Parent::Unknown)
            {
                next = Some(parent);
            }
            self.retire_program(program);
            keep(&mut self.images, image);
        }
    }

    fn retire_program(&mut self, mut program: Arc<Program>) {
        if let Some(contents) = Arc::get_mut(&mut program) {
            *contents = Program::default();
            keep(&mut self.programs, program);
        }
    }
}

/// Everything in `spare` belongs to nobody else.
fn share<T>(spare: &mut Vec<Arc<T>>, value: T) -> Arc<T> {
    if let Some(mut used) = spare.pop()
        && let Some(contents) = Arc::get_mut(&mut used)
    {
        *contents = value;
        return used;
    }
    Arc::new(value)
}

fn keep<T>(spare: &mut Vec<Arc<T>>, value: Arc<T>) {
    if spare.len() < KEPT {
        spare.push(value);
    }
}
