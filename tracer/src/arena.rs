//! Values in slots with stable handles, each in one of a few lists that keep order.
//!
//! Both tables need the same: constant-time access by a handle that can never reach another value
//! that moved in later, the oldest of a kind when something has to go, and, since every entry of a
//! list waits equally long, timers. A list whose head is not due has nothing that is due.

use std::num::NonZeroU32;

/// Where a value lives, for as long as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    slot: u32,
    /// Not zero, so that a handle or none fits into a register.
    generation: NonZeroU32,
}

impl Handle {
    /// Where the value lives; [`Arena::handle`] leads back, as long as it does.
    pub(crate) fn slot(self) -> u32 {
        self.slot
    }
}

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<T> {
    generation: NonZeroU32,
    list: u32,
    previous: u32,
    next: u32,
    /// `None` while the slot is free; `next` then links the free slots.
    value: Option<T>,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

/// Values of type `T` in `LISTS` ordered lists.
#[derive(Debug)]
pub(crate) struct Arena<T, const LISTS: usize> {
    slots: Vec<Slot<T>>,
    lists: [Ends; LISTS],
    free: u32,
    len: usize,
}

impl<T, const LISTS: usize> Arena<T, LISTS> {
    pub(crate) fn new() -> Self {
        let empty = Ends {
            first: NONE,
            last: NONE,
        };
        Arena {
            slots: Vec::new(),
            lists: [empty; LISTS],
            free: NONE,
            len: 0,
        }
    }

    /// Number of values in all lists.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a value at the end of a list.
    pub(crate) fn push(&mut self, list: usize, value: T) -> Handle {
        let slot = self.free_slot();
        self.slots[slot as usize].value = Some(value);
        self.len += 1;
        self.link(slot, list);
        Handle {
            slot,
            generation: self.slots[slot as usize].generation,
        }
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<&T> {
        self.slot(handle)?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let slot = &mut self.slots[handle.slot as usize];
        if slot.generation == handle.generation {
            slot.value.as_mut()
        } else {
            None
        }
    }

    /// The handle of the value in a slot, if there is one.
    pub(crate) fn handle(&self, slot: u32) -> Option<Handle> {
        let found = self.slots.get(slot as usize)?;
        found.value.as_ref()?;
        Some(Handle {
            slot,
            generation: found.generation,
        })
    }

    /// The list that the value is in.
    pub(crate) fn list_of(&self, handle: Handle) -> Option<usize> {
        self.slot(handle).map(|slot| slot.list as usize)
    }

    /// The value that has been in a list for longest.
    pub(crate) fn first(&self, list: usize) -> Option<(Handle, &T)> {
        let slot = self.lists[list].first;
        let first = self.slots.get(slot as usize)?;
        Some((
            Handle {
                slot,
                generation: first.generation,
            },
            first.value.as_ref()?,
        ))
    }

    /// Every value, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    /// Every value, in no order, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }

    /// Moves a value to the end of a list.
    pub(crate) fn move_to(&mut self, handle: Handle, list: usize) {
        if self.get(handle).is_some() {
            self.unlink(handle.slot);
            self.link(handle.slot, list);
        }
    }

    /// Takes a value out. Its handle reaches nothing from now on.
    pub(crate) fn remove(&mut self, handle: Handle) -> Option<T> {
        self.get(handle)?;
        self.unlink(handle.slot);
        self.len -= 1;
        let slot = &mut self.slots[handle.slot as usize];
        slot.generation = slot.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        slot.next = std::mem::replace(&mut self.free, handle.slot);
        slot.value.take()
    }

    fn slot(&self, handle: Handle) -> Option<&Slot<T>> {
        let slot = &self.slots[handle.slot as usize];
        (slot.generation == handle.generation).then_some(slot)
    }

    fn free_slot(&mut self) -> u32 {
        if let Some(slot) = self.slots.get(self.free as usize) {
            return std::mem::replace(&mut self.free, slot.next);
        }
        let slot = u32::try_from(self.slots.len()).expect("the tables' limits are far below 2³²");
        self.slots.push(Slot {
            generation: NonZeroU32::MIN,
            list: 0,
            previous: NONE,
            next: NONE,
            value: None,
        });
        slot
    }

    fn link(&mut self, slot: u32, list: usize) {
        let previous = std::mem::replace(&mut self.lists[list].last, slot);
        match self.slots.get_mut(previous as usize) {
            Some(previous) => previous.next = slot,
            None => self.lists[list].first = slot,
        }
        let entry = &mut self.slots[slot as usize];
        (entry.list, entry.previous, entry.next) = (list as u32, previous, NONE);
    }

    fn unlink(&mut self, slot: u32) {
        let Slot {
            list,
            previous,
            next,
            ..
        } = self.slots[slot as usize];
        match self.slots.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.lists[list as usize].first = next,
        }
        match self.slots.get_mut(next as usize) {
            Some(next) => next.previous = previous,
            None => self.lists[list as usize].last = previous,
        }
    }
}

/// For a handle that is known to be in use.
impl<T, const LISTS: usize> std::ops::Index<Handle> for Arena<T, LISTS> {
    type Output = T;

    fn index(&self, handle: Handle) -> &T {
        self.get(handle)
            .expect("the table refers only to entries that it has")
    }
}

impl<T, const LISTS: usize> std::ops::IndexMut<Handle> for Arena<T, LISTS> {
    fn index_mut(&mut self, handle: Handle) -> &mut T {
        self.get_mut(handle)
            .expect("the table refers only to entries that it has")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(arena: &mut Arena<char, 2>, list: usize) -> String {
        std::iter::from_fn(|| {
            let handle = arena.first(list)?.0;
            arena.remove(handle)
        })
        .collect()
    }

    #[test]
    fn lists_keep_the_order_in_which_values_entered_them() {
        let mut arena = Arena::<char, 2>::new();
        let [a, b, c, d] = ['a', 'b', 'c', 'd'].map(|value| arena.push(0, value));
        arena.move_to(b, 1);
        arena.move_to(a, 1);
        arena.move_to(c, 0);
        assert_eq!(arena.list_of(b), Some(1));
        assert_eq!(arena.first(1), Some((b, &'b')));
        assert_eq!(arena.get(d), Some(&'d'));
        assert_eq!(
            (drain(&mut arena, 0), drain(&mut arena, 1)),
            ("dc".into(), "ba".into())
        );
        assert_eq!(arena.len(), 0);
    }

    #[test]
    fn handle_never_reaches_a_later_value_in_the_same_slot() {
        let mut arena = Arena::<char, 1>::new();
        let a = arena.push(0, 'a');
        assert_eq!(arena.remove(a), Some('a'));
        let b = arena.push(0, 'b');
        assert_eq!(a.slot, b.slot);
        assert_eq!(arena.get(a), None);
        assert_eq!(arena.get_mut(a), None);
        assert_eq!(arena.remove(a), None);
        arena.move_to(a, 0);
        assert_eq!(arena.get(b), Some(&'b'));
    }

    #[test]
    fn removed_slots_are_used_again() {
        let mut arena = Arena::<u32, 1>::new();
        for value in 0..1_000 {
            let handle = arena.push(0, value);
            let other = arena.push(0, value);
            arena.remove(handle);
            arena.remove(other);
        }
        assert_eq!(arena.slots.len(), 2);
    }
}
