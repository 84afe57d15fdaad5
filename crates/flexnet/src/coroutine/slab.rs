// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Cells for coroutines: fixed size, aligned to a cache line, made once.

use std::cell::{Cell as StdCell, UnsafeCell};
use std::future::Future;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

/// Bytes a coroutine may have to live in its cell; larger ones are boxed. With
/// its header a cell is four cache lines.
pub const CELL_BYTES: usize = 240;

/// Free cells an executor keeps for itself at most, and how many it takes from
/// or gives to the others at a time.
const CACHED: usize = 32;
const BATCH: usize = CACHED / 2;

/// No cell: the end of the free list.
const NONE: u32 = u32::MAX;

type ResumeFn = unsafe fn(*mut u8, &mut Context<'_>) -> Poll<()>;
type DropFn = unsafe fn(*mut u8);

#[repr(C, align(16))]
struct Storage(MaybeUninit<[u8; CELL_BYTES]>);

#[repr(C, align(64))]
struct Cell {
    vtable: UnsafeCell<Option<&'static VTable>>,
    /// The next free cell, while this one is free.
    next: AtomicU32,
    /// Behind the header, so that a small coroutine is on one line with it.
    storage: UnsafeCell<Storage>,
}

const _: () = assert!(size_of::<Cell>() == 256);

struct VTable {
    resume: ResumeFn,
    /// None: there is nothing to drop.
    drop: Option<DropFn>,
}

/// Names a coroutine in its [`Slab`]. Not checked for reuse: the thread that
/// holds it resumes it to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellId(u32);

impl CellId {
    pub(crate) fn to_bits(self) -> u64 {
        self.0.into()
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits as u32)
    }
}

/// Every cell is taken: let some finish first, or make a larger slab. With the
/// coroutine that found none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Exhausted<F>(pub F);

impl<F> std::fmt::Debug for Exhausted<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exhausted").finish_non_exhaustive()
    }
}

impl<F> std::fmt::Display for Exhausted<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("every coroutine cell is taken")
    }
}

impl<F> std::error::Error for Exhausted<F> {}

/// A fixed number of cells with a free list any thread may use, and a
/// [`Cells`] for each thread that uses it much.
pub struct Slab {
    cells: Box<[Cell]>,
    /// Index of the first free cell, and above it a count that moves with each
    /// change, so that a stale compare-and-swap fails (ABA).
    free: AtomicU64,
}

// SAFETY: a cell in use is touched by the holder of its CellId alone, a free one by
// the thread that took it off the list; the futures are Send.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

fn vtable_of<F: Future<Output = ()>>() -> &'static VTable {
    unsafe fn resume<F: Future<Output = ()>>(at: *mut u8, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: create wrote an F there, which stays until drop: pinned.
        unsafe { Pin::new_unchecked(&mut *at.cast::<F>()) }.poll(context)
    }
    unsafe fn drop_at<F>(at: *mut u8) {
        // SAFETY: create wrote an F there; called once, at its end.
        unsafe { at.cast::<F>().drop_in_place() }
    }
    const {
        &VTable {
            resume: resume::<F>,
            drop: if std::mem::needs_drop::<F>() {
                Some(drop_at::<F>)
            } else {
                None
            },
        }
    }
}

/// Does it lie in its cell, and not in a box?
const fn fits_cell<F>() -> bool {
    size_of::<F>() <= CELL_BYTES && align_of::<F>() <= 16
}

impl Slab {
    /// Makes `cells` cells (at least 1). The only allocation.
    pub fn new(cells: u32) -> Self {
        Self::with_caches(cells, 0)
    }

    /// [`Slab::new`], and as many more as `caches` [`Cells`] may hold back.
    pub fn with_caches(cells: u32, caches: u32) -> Self {
        let count = cells
            .saturating_add(caches.saturating_mul(CACHED as u32))
            .clamp(1, NONE - 1);
        Self {
            cells: (0..count)
                .map(|i| Cell {
                    storage: UnsafeCell::new(Storage(MaybeUninit::uninit())),
                    vtable: UnsafeCell::new(None),
                    next: AtomicU32::new(if i + 1 == count { NONE } else { i + 1 }),
                })
                .collect(),
            free: AtomicU64::new(0),
        }
    }

    /// Stores a coroutine; it runs when it is first resumed. One that is larger
    /// than [`CELL_BYTES`] or aligned to more than 16 is boxed.
    ///
    /// # Errors
    /// [`Exhausted`], with the future, when every cell is taken.
    #[inline]
    pub fn create<F>(&self, future: F) -> Result<CellId, Exhausted<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self.take_free() {
            Some(index) => Ok(self.place(index, future)),
            None => Err(Exhausted(future)),
        }
    }

    /// Takes back a coroutine that was never resumed, and frees its cell.
    ///
    /// # Safety
    /// As for [`Slab::resume`]; the coroutine is an `F`, and was never resumed.
    #[cold]
    pub(crate) unsafe fn take_back<F>(&self, id: CellId) -> F
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cell = &self.cells[id.0 as usize];
        let at = cell.storage.get();
        // SAFETY: the caller owns the cell, in which `place` put an F or its box. Nobody has
        // polled it, so nothing relies on its place: it may move.
        let future = unsafe {
            *cell.vtable.get() = None;
            match fits_cell::<F>() {
                true => at.cast::<F>().read(),
                false => *Pin::into_inner_unchecked(at.cast::<Pin<Box<F>>>().read()),
            }
        };
        self.give_free(id.0, id.0);
        future
    }

    /// For a thread that creates and finishes many: keeps free cells for itself.
    pub fn cells(&self) -> Cells<'_> {
        Cells {
            slab: self,
            count: StdCell::new(0),
            free: [const { StdCell::new(NONE) }; CACHED],
        }
    }

    /// Into a cell that was taken off the free list: this thread's alone.
    #[inline]
    fn place<F>(&self, index: u32, future: F) -> CellId
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // SAFETY: the cell is this thread's; a pinned box fits any cell.
        unsafe {
            if fits_cell::<F>() {
                self.write(index, future);
            } else {
                self.write(index, Box::pin(future));
            }
        }
        CellId(index)
    }

    /// # Safety
    /// The cell is the caller's alone, and free, and the future fits.
    #[inline]
    unsafe fn write<F: Future<Output = ()> + Send + 'static>(&self, index: u32, future: F) {
        let cell = &self.cells[index as usize];
        // SAFETY: as promised.
        unsafe {
            cell.storage.get().cast::<F>().write(future);
            *cell.vtable.get() = Some(vtable_of::<F>());
        }
    }

    /// Runs a coroutine to its next await that is not ready. When it finishes
    /// or panics its cell is free again, and `id` names nothing. A panic counts
    /// as the end of this coroutine and of no other.
    ///
    /// # Safety
    /// `id` came from this slab's `create`, the coroutine has not finished, and
    /// no other thread resumes it now.
    #[inline]
    pub unsafe fn resume(&self, id: CellId, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: as promised to this.
        let polled = unsafe { self.run(id, context) };
        if polled.is_ready() {
            self.give_free(id.0, id.0);
        }
        polled
    }

    /// Runs a coroutine, and drops it when it has finished; its cell is the
    /// caller's then.
    ///
    /// # Safety
    /// As for [`Slab::resume`].
    #[inline]
    unsafe fn run(&self, id: CellId, context: &mut Context<'_>) -> Poll<()> {
        let cell = &self.cells[id.0 as usize];
        let at = cell.storage.get().cast::<u8>();
        // SAFETY: the caller owns the cell; create set the vtable.
        let vtable = unsafe { *cell.vtable.get() };
        debug_assert!(vtable.is_some(), "a finished coroutine is resumed");
        let Some(vtable) = vtable else {
            return Poll::Pending;
        };
        // SAFETY: the storage holds the future the vtable was made for.
        let polled = catch_unwind(AssertUnwindSafe(|| unsafe { (vtable.resume)(at, context) }));
        if matches!(polled, Ok(Poll::Pending)) {
            return Poll::Pending;
        }
        // SAFETY: it has finished, and the caller promised to be alone.
        unsafe { self.drop_future(id) };
        Poll::Ready(())
    }

    /// Was there one?
    ///
    /// # Safety
    /// As for [`Slab::resume`].
    #[inline]
    unsafe fn drop_future(&self, id: CellId) -> bool {
        let cell = &self.cells[id.0 as usize];
        // SAFETY: the caller owns the cell.
        let Some(vtable) = (unsafe { (*cell.vtable.get()).take() }) else {
            return false;
        };
        if let Some(drop_at) = vtable.drop {
            let at = cell.storage.get().cast::<u8>();
            // A destructor that panics ends here: the cell must come back.
            // SAFETY: the storage holds the future, dropped once (take above).
            let _ = catch_unwind(AssertUnwindSafe(|| unsafe { drop_at(at) }));
        }
        true
    }

    /// Drops a coroutine, if it was not dropped, and keeps its cell: a record that names it later
    /// finds nothing in there.
    ///
    /// # Safety
    /// As for [`Slab::resume`].
    pub(crate) unsafe fn end(&self, id: CellId) {
        // SAFETY: as promised to this.
        unsafe { self.drop_future(id) };
    }

    /// Drops a coroutine that will not be resumed again and frees its cell.
    ///
    /// # Safety
    /// As for [`Slab::resume`].
    pub unsafe fn discard(&self, id: CellId) {
        // SAFETY: as promised to this.
        if unsafe { self.drop_future(id) } {
            self.give_free(id.0, id.0);
        }
    }

    #[inline]
    fn take_free(&self) -> Option<u32> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let index = head as u32;
            if index == NONE {
                return None;
            }
            let next = self.cells[index as usize].next.load(Ordering::Relaxed);
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(next);
            match self
                .free
                .compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    /// Takes up to so many as there is room for; how many.
    #[cold]
    fn take_some(&self, room: &[StdCell<u32>]) -> usize {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let mut next = head as u32;
            let mut count = 0;
            while count < room.len() && next != NONE {
                room[count].set(next);
                count += 1;
                // Of a cell that others took meanwhile this is any index, or
                // NONE; the compare-and-swap fails then.
                next = self.cells[next as usize].next.load(Ordering::Relaxed);
            }
            if count == 0 {
                return 0;
            }
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(next);
            match self
                .free
                .compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return count,
                Err(now) => head = now,
            }
        }
    }

    /// Frees a chain of cells, the caller's, linked from `first` to `last`.
    #[inline]
    fn give_free(&self, first: u32, last: u32) {
        let last = &self.cells[last as usize].next;
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            last.store(head as u32, Ordering::Relaxed);
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(first);
            match self
                .free
                .compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    #[cold]
    fn give_some(&self, cells: &[StdCell<u32>]) {
        for pair in cells.windows(2) {
            self.cells[pair[0].get() as usize]
                .next
                .store(pair[1].get(), Ordering::Relaxed);
        }
        if let (Some(first), Some(last)) = (cells.first(), cells.last()) {
            self.give_free(first.get(), last.get());
        }
    }
}

/// One thread's way to a [`Slab`]: what finishes here is created here again,
/// without an atomic operation. Executors have one.
///
/// ```
/// use flexnet::coroutine::{Slab, yield_now};
/// use std::task::{Context, Waker};
///
/// let slab = Slab::with_caches(64, 1);
/// let cells = slab.cells();
/// let id = cells.create(yield_now())?;
/// let mut context = Context::from_waker(Waker::noop());
/// // SAFETY: made above, and resumed to its end by this thread alone.
/// unsafe {
///     assert!(cells.resume(id, &mut context).is_pending());
///     assert!(cells.resume(id, &mut context).is_ready());
/// }
/// # Ok::<(), flexnet::coroutine::Exhausted<_>>(())
/// ```
pub struct Cells<'a> {
    slab: &'a Slab,
    count: StdCell<usize>,
    free: [StdCell<u32>; CACHED],
}

impl Cells<'_> {
    /// [`Slab::create`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn create<F>(&self, future: F) -> Result<CellId, Exhausted<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut count = self.count.get();
        if count == 0 {
            count = self.slab.take_some(&self.free[..BATCH]);
            if count == 0 {
                return Err(Exhausted(future));
            }
        }
        self.count.set(count - 1);
        Ok(self.slab.place(self.free[count - 1].get(), future))
    }

    /// [`Slab::resume`].
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub unsafe fn resume(&self, id: CellId, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: as promised to this.
        let polled = unsafe { self.slab.run(id, context) };
        if polled.is_ready() {
            let mut count = self.count.get();
            if count == CACHED {
                self.slab.give_some(&self.free[BATCH..]);
                count = BATCH;
            }
            self.free[count].set(id.0);
            self.count.set(count + 1);
        }
        polled
    }
}

impl Drop for Cells<'_> {
    fn drop(&mut self) {
        self.slab.give_some(&self.free[..self.count.get()]);
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        for index in 0..self.cells.len() as u32 {
            // SAFETY: exclusive access; a cell without a future is left alone.
            unsafe { self.drop_future(CellId(index)) };
        }
    }
}

#[cfg(all(test, not(flexnet_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Waker;

    fn resume(slab: &Slab, id: CellId) -> Poll<()> {
        // SAFETY: the tests resume each coroutine from one thread to its end.
        unsafe { slab.resume(id, &mut Context::from_waker(Waker::noop())) }
    }

    #[test]
    fn a_coroutine_yields_and_finishes_and_its_cell_comes_back() {
        let slab = Slab::new(1);
        for _ in 0..3 {
            let id = slab.create(crate::coroutine::yield_now()).unwrap();
            let (sender, receiver) = std::sync::mpsc::channel();
            let refused = slab.create(async move { sender.send(()).unwrap() });
            let Err(Exhausted(given_back)) = refused else {
                panic!("there are two cells");
            };
            let mut context = Context::from_waker(Waker::noop());
            assert!(std::pin::pin!(given_back).poll(&mut context).is_ready());
            assert!(receiver.recv().is_ok(), "it is the one that was refused");
            assert_eq!(resume(&slab, id), Poll::Pending);
            assert_eq!(resume(&slab, id), Poll::Ready(()));
        }
    }

    #[test]
    fn large_ones_are_boxed_and_all_are_dropped() {
        let slab = Slab::new(2);
        let token = Arc::new(());
        for held in [token.clone(), token.clone()] {
            let large = [0u8; 4096];
            slab.create(async move {
                crate::coroutine::yield_now().await;
                drop((held, large));
            })
            .unwrap();
        }
        assert_eq!(Arc::strong_count(&token), 3);
        drop(slab);
        assert_eq!(Arc::strong_count(&token), 1);
    }

    #[test]
    fn a_panic_ends_one_coroutine_only() {
        let slab = Slab::new(2);
        let other = slab.create(async {}).unwrap();
        let id = slab
            .create(async { std::panic::resume_unwind(Box::new("stop")) })
            .unwrap();
        assert_eq!(resume(&slab, id), Poll::Ready(()));
        assert_eq!(resume(&slab, other), Poll::Ready(()));
        assert!(slab.create(async {}).is_ok());
    }

    #[test]
    fn threads_share_the_free_list() {
        let slab = Slab::new(8);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Ok(id) = slab.create(crate::coroutine::yield_now()) {
                            assert_eq!(resume(&slab, id), Poll::Pending);
                            assert_eq!(resume(&slab, id), Poll::Ready(()));
                        }
                    }
                });
            }
        });
        assert_eq!((0..9).filter(|_| slab.create(async {}).is_ok()).count(), 8);
    }

    #[test]
    fn what_a_thread_holds_back_the_others_do_not_miss() {
        let slab = Slab::with_caches(8, 2);
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::channel();
            scope.spawn(|| {
                let cells = slab.cells();
                for id in receiver {
                    // SAFETY: created by the other thread, and resumed here.
                    let run =
                        || unsafe { cells.resume(id, &mut Context::from_waker(Waker::noop())) };
                    assert_eq!(run(), Poll::Pending);
                    assert_eq!(run(), Poll::Ready(()));
                }
            });
            let cells = slab.cells();
            for _ in 0..10_000 {
                let id = loop {
                    match cells.create(crate::coroutine::yield_now()) {
                        Ok(id) => break id,
                        Err(Exhausted(_)) => std::thread::yield_now(),
                    }
                };
                sender.send(id).unwrap();
            }
            drop(sender);
        });
        let all = 8 + 2 * CACHED;
        let alive = (0..=all).filter(|_| slab.create(async {}).is_ok()).count();
        assert_eq!(alive, all);
    }
}
