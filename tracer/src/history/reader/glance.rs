//! Which connections are worth making an item of: most of a day have nothing to do with the one process or address
//! that somebody asks about.
//!
//! In: numbers of rows. Out: whether the rest of the row has to be read.

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use rusqlite::{Connection, Result};

use super::rows::{self, Referred};
use crate::process::image::Image;

/// Connections that count. Of those that do not, some may come nevertheless.
#[derive(Clone, Copy)]
pub enum Glance<'a> {
    /// All of them.
    All,
    /// Those whose owner counts, by the number of its file.
    Owner(&'a dyn Fn(usize, &Image) -> bool),
    /// Those with this address at one of their ends.
    End(IpAddr),
}

/// What is known so far of the rows of one file.
pub(super) enum Glanced<'a> {
    All,
    Owner {
        file: usize,
        counts: &'a dyn Fn(usize, &Image) -> bool,
        processes: HashMap<i64, bool, RandomState>,
    },
    End(HashSet<i64, RandomState>),
}

impl<'a> Glanced<'a> {
    /// Nothing yet, but which contacts have an address.
    pub(super) fn new(
        glance: Glance<'a>,
        file: usize,
        database: &Connection,
        referred: &mut Referred,
    ) -> Result<Self> {
        Ok(match glance {
            Glance::All => Self::All,
            Glance::Owner(counts) => Self::Owner {
                file,
                counts,
                processes: HashMap::default(),
            },
            Glance::End(ip) => {
                let contacts = rows::contacts(database, referred, ip, &|_| true)?;
                Self::End(contacts.into_iter().collect())
            }
        })
    }

    /// Whether a connection counts, by the rows of its process and contact.
    pub(super) fn wants(
        &mut self,
        database: &Connection,
        referred: &mut Referred,
        process: Option<i64>,
        contact: i64,
    ) -> Result<bool> {
        match self {
            Self::All => Ok(true),
            Self::End(contacts) => Ok(contacts.contains(&contact)),
            Self::Owner {
                file,
                counts,
                processes,
            } => {
                let Some(process) = process else {
                    return Ok(false);
                };
                if let Some(&counts) = processes.get(&process) {
                    return Ok(counts);
                }
                let image = referred.images.image(database, process)?;
                let counts = image.is_some_and(|image| counts(*file, &image));
                processes.insert(process, counts);
                Ok(counts)
            }
        }
    }
}
