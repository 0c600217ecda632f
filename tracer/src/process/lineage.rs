//! Chains of images that stay bounded.
//!
//! In: an ancestor's image. Out: the link to it, over a chain that is cut when it grows too long.

use std::sync::Arc;

use super::image::{Image, Parent, Relation};

/// No chain has more ancestors than this. Dropping a chain recurses, so it must have a bound.
pub(crate) const DEPTH_MAX: u32 = 256;
/// How many of the newest images are kept when a chain is cut. It then takes as many generations
/// again until the next cut, which pays for copying them.
const DEPTH_KEPT: usize = 128;

/// Cuts the chain of `parent` if it cannot grow further.
pub(super) fn bound(parent: &mut Arc<Image>) {
    if parent.depth >= DEPTH_MAX {
        *parent = cut(parent);
    }
}

/// The link from a child to its parent, and the number of ancestors that the child then has. The
/// parent's chain has been [bounded](bound).
pub(super) fn link(relation: Relation, parent: &Arc<Image>) -> (Parent, u32) {
    (
        Parent::Known(relation, Arc::clone(parent)),
        parent.depth + 1,
    )
}

/// A copy of the newest part of a chain, which says that it has been cut.
fn cut(newest: &Arc<Image>) -> Arc<Image> {
    let kept: Vec<&Image> = newest.lineage().take(DEPTH_KEPT).collect();
    let copy = kept
        .into_iter()
        .rev()
        .fold(None, |older: Option<Arc<Image>>, image| {
            let (parent, depth) = match (&image.parent, &older) {
                (Parent::Known(relation, _), Some(older)) => link(*relation, older),
                _ => (Parent::Cut, 0),
            };
            Some(Arc::new(Image {
                parent,
                depth,
                ..image.clone()
            }))
        });
    copy.unwrap_or_else(|| Arc::clone(newest))
}
