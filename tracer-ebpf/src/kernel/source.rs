//! Three ways to read a kernel structure.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// A kernel structure whose fields can be read at offsets from [`layout!`](super::layout).
pub(crate) trait Source: Copy {
    /// How the structure behind one of its pointers is read.
    type Pointee: Source;

    /// The field at `offset`; `None` if the kernel refuses.
    fn load<T: Copy>(self, offset: u32) -> Option<T>;

    /// The structure that the pointer at `offset` points to; `None` if refused or null.
    fn follow(self, offset: u32) -> Option<Self::Pointee>;
}

/// A pointer whose type the verifier knows: every field is a plain load. A load through a null
/// pointer yields zero; the kernel's exception table sees to that.
#[derive(Clone, Copy)]
pub(crate) struct Direct(pub(crate) *const u8);

impl Source for Direct {
    type Pointee = Direct;

    #[inline(always)]
    fn load<T: Copy>(self, offset: u32) -> Option<T> {
        // SAFETY: the verifier checks offset and size against the structure's BTF; `offset` is a
        // constant to it. BPF loads need no alignment beyond what BTF offsets have.
        Some(unsafe { ptr::read_volatile(self.0.add(offset as usize).cast::<T>()) })
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Option<Direct> {
        let pointer: *const u8 = self.load(offset)?;
        (!pointer.is_null()).then_some(Direct(pointer))
    }
}

/// A pointer that is a mere number to the verifier: every field is a helper call.
#[derive(Clone, Copy)]
pub(crate) struct Remote(pub(crate) *const u8);

impl Source for Remote {
    type Pointee = Remote;

    #[inline(always)]
    fn load<T: Copy>(self, offset: u32) -> Option<T> {
        read_remote(self.0.wrapping_add(offset as usize))
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Option<Remote> {
        let pointer: *const u8 = self.load(offset)?;
        (!pointer.is_null()).then_some(Remote(pointer))
    }
}

/// The first bytes of a structure, copied by one helper call; its fields are then plain loads.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a>(&'a WindowBuffer);

/// Holds `struct sock_common` up to both IPv6 addresses.
pub(crate) type WindowBuffer = [u64; 14];

impl<'a> Window<'a> {
    /// Copies the beginning of the structure at `pointer` into `buffer`.
    #[inline(always)]
    pub(crate) fn read(
        pointer: *const u8,
        buffer: &'a mut MaybeUninit<WindowBuffer>,
    ) -> Option<Self> {
        buffer.write(read_remote(pointer)?);
        // SAFETY: written just now.
        Some(Self(unsafe { buffer.assume_init_ref() }))
    }
}

impl Source for Window<'_> {
    type Pointee = Remote;

    #[inline(always)]
    fn load<T: Copy>(self, offset: u32) -> Option<T> {
        // SAFETY: the verifier checks the constant offset against the buffer on the stack.
        Some(unsafe {
            ptr::read_volatile(
                self.0
                    .as_ptr()
                    .cast::<u8>()
                    .add(offset as usize)
                    .cast::<T>(),
            )
        })
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Option<Remote> {
        let pointer: *const u8 = self.load(offset)?;
        (!pointer.is_null()).then_some(Remote(pointer))
    }
}

/// An address as a mere number, which may be calculated with, and stored in any way: the verifier forbids
/// both for a pointer whose type it knows. To swap its bytes makes a number of it.
#[inline(always)]
pub(crate) fn number(pointer: *const u8) -> u64 {
    let mut number = pointer as u64;
    // SAFETY: changes nothing but a register.
    unsafe {
        core::arch::asm!("{0} = be64 {0}", "{0} = be64 {0}", inout(reg) number, options(pure, nomem, nostack));
    }
    number
}

/// One value from kernel memory, by a helper call.
#[inline(always)]
pub(crate) fn read_remote<T: Copy>(pointer: *const u8) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the destination has the size given; the helper checks the source.
    let result = unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            pointer.cast(),
        )
    };
    // SAFETY: the helper has written all of it.
    (result == 0).then(|| unsafe { value.assume_init() })
}
