//! The Merkle tree over the entries of a trail: hashes, roots and proofs of RFC 6962, section 2.1 (RFC 9162 has the same tree).

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};

/// SHA-256.
pub type Hash = [u8; 32];

/// Length in bytes of a [`type@Hash`].
pub const HASH_LEN: usize = 32;

/// Entries of the subtrees whose hashes the file `nodes` keeps. A segment begins at a multiple of it, so that old segments can
/// go while roots and proofs of what stays can still be computed.
pub const SUBTREE: u64 = 256;

/// Level of a subtree of [`SUBTREE`] entries. Entries are level 0.
pub const SUBTREE_LEVEL: u32 = 8;

/// Most hashes of a proof: a tree of 2^64 entries has no higher branch.
const MAX_PROOF: usize = 64;

/// Longest line that is copied to be hashed in one call. A [`Context`] lies on the heap, which costs more for most lines than
/// the copy does.
const SHORT_LINE: usize = 1_023;

/// The leaf of an entry: its line without the line feed.
#[must_use]
pub fn leaf_hash(line: &[u8]) -> Hash {
    let mut input = [0; 1 + SHORT_LINE];
    if let Some(place) = input.get_mut(1..=line.len()) {
        place.copy_from_slice(line);
        return hash_of(input.get(..=line.len()).unwrap_or_default());
    }
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(line);
    as_hash(&context.finish())
}

/// The node above two others.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut input = [1; 1 + 2 * HASH_LEN];
    let (first, second) = input[1..].split_at_mut(HASH_LEN);
    first.copy_from_slice(left);
    second.copy_from_slice(right);
    hash_of(&input)
}

/// The root of a tree without entries.
#[must_use]
pub fn empty_root() -> Hash {
    hash_of(&[])
}

fn hash_of(input: &[u8]) -> Hash {
    as_hash(&digest(&SHA256, input))
}

fn as_hash(digest: &Digest) -> Hash {
    let mut hash = [0; HASH_LEN];
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// The right edge of a growing tree: as much of it as its root and its growth need, at most 64 hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The complete subtrees that the tree falls into, the largest first: one for each bit that is set in `size`.
    nodes: Vec<Hash>,
}

impl Default for Frontier {
    fn default() -> Self {
        Self::new()
    }
}

impl Frontier {
    /// A tree without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            size: 0,
            nodes: Vec::new(),
        }
    }

    /// The tree of `size` entries, from the hashes of its complete subtrees of [`SUBTREE`] entries and the leaves after them.
    /// `None` when their number does not fit the size.
    #[must_use]
    pub fn restore(size: u64, nodes: &[Hash], tail_leaves: &[Hash]) -> Option<Self> {
        let fits = u64::try_from(nodes.len()) == Ok(size / SUBTREE) && u64::try_from(tail_leaves.len()) == Ok(size % SUBTREE);
        if !fits {
            return None;
        }
        let mut tree = Self::new();
        for node in nodes {
            tree.push_at(SUBTREE_LEVEL, *node);
        }
        for leaf in tail_leaves {
            tree.push(*leaf);
        }
        Some(tree)
    }

    /// Adds a leaf. Answers the hash of the subtree of [`SUBTREE`] entries when this leaf completes one.
    pub fn push(&mut self, leaf: Hash) -> Option<Hash> {
        self.push_at(0, leaf)
    }

    /// Adds the hash of the next [`SUBTREE`] entries. Answers `false`, and adds nothing, where the tree does not end at such a
    /// subtree.
    pub fn push_subtree(&mut self, node: Hash) -> bool {
        let ends = self.size.is_multiple_of(SUBTREE);
        if ends {
            self.push_at(SUBTREE_LEVEL, node);
        }
        ends
    }

    /// Adds a complete subtree; the size is a multiple of its entries.
    fn push_at(&mut self, level: u32, node: Hash) -> Option<Hash> {
        let mut complete = None;
        let (mut level, mut hash) = (level, node);
        let added = 1_u64 << level;
        while self.size >> level & 1 == 1 {
            let Some(left) = self.nodes.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            if level == SUBTREE_LEVEL {
                complete = Some(hash);
            }
        }
        self.nodes.push(hash);
        self.size += added;
        complete
    }

    /// How many entries the tree has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        match nodes.next() {
            None => empty_root(),
            Some(last) => nodes.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// The hash of the entries from `begin` to before `end`; `begin` is where a subtree of that size begins.
fn range_hash(begin: u64, end: u64, node: &impl Fn(u32, u64) -> Option<Hash>) -> Option<Hash> {
    let entries = end - begin;
    if entries.is_power_of_two() {
        let level = entries.trailing_zeros();
        return node(level, begin >> level);
    }
    let split = begin + left_entries(entries);
    Some(node_hash(&range_hash(begin, split, node)?, &range_hash(split, end, node)?))
}

/// Entries of the left branch of a tree with more than one: the largest power of two that is smaller (RFC 6962, section 2.1).
const fn left_entries(entries: u64) -> u64 {
    1 << (u64::BITS - 1 - (entries - 1).leading_zeros())
}

/// The proof that the entry `index` is in the tree of the first `size` entries (RFC 6962, section 2.1.1). `node` answers the hash
/// of the complete subtree at a level (2^level entries) with an index among those of its level. `None` when the entry is not in
/// the tree, or when `node` does not know a subtree that is needed.
pub fn inclusion_proof(index: u64, size: u64, node: impl Fn(u32, u64) -> Option<Hash>) -> Option<Vec<Hash>> {
    if index >= size {
        return None;
    }
    let mut proof = Vec::new();
    let (mut begin, mut end) = (0, size);
    while end - begin > 1 {
        let split = begin + left_entries(end - begin);
        if index < split {
            proof.push(range_hash(split, end, &node)?);
            end = split;
        } else {
            proof.push(range_hash(begin, split, &node)?);
            begin = split;
        }
    }
    proof.reverse();
    Some(proof)
}

/// Whether the proof shows that the entry `index` with this leaf is in the tree of `size` entries with this root (RFC 9162,
/// section 2.1.3.2).
#[must_use]
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> bool {
    if index >= size || proof.len() > MAX_PROOF {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for other in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(other, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, other);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

#[cfg(test)]
mod tests;
