//! Iterators: programs that the kernel runs over every task or every open file, when their file is read.
//!
//! In: the loaded object. Out: the file to read, or the kernel's refusal.

use std::{fs::File, io};

use aya::{
    Ebpf,
    programs::{Iter, ProgramError},
};

use super::loader::{chain, reason};

/// Loads `program` and opens it: reading the file runs it over every `task` or `task_file`.
pub fn load(ebpf: &mut Ebpf, btf: &aya::Btf, program: &str, over: &str) -> Result<File, String> {
    find(ebpf, program)
        .and_then(|program| program.load(over, btf))
        .map_err(|error| reason(&error))?;
    open(ebpf, program)
}

/// Opens an iterator that has been loaded.
pub fn open(ebpf: &mut Ebpf, program: &str) -> Result<File, String> {
    let open = |program: &mut Iter| {
        let link = program.attach()?;
        let file = program.take_link(link)?.into_file();
        file.map_err(|error| ProgramError::IOError(io::Error::other(chain(&error))))
    };
    find(ebpf, program)
        .and_then(open)
        .map_err(|error| reason(&error))
}

fn find<'a>(ebpf: &'a mut Ebpf, program: &str) -> Result<&'a mut Iter, ProgramError> {
    ebpf.program_mut(program)
        .ok_or(ProgramError::NotLoaded)?
        .try_into()
}
