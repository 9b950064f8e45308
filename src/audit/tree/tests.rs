//! Rules of the Merkle tree, with the published vectors and against the RFC's own definitions.

use proptest::prelude::*;

use super::*;

/// The inputs of Certificate Transparency's own tests, which every implementation of RFC 6962 shares.
const INPUTS: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

/// Roots of the first 0, 1, … 8 inputs.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn hash(text: &str) -> Hash {
    hex(text).try_into().unwrap()
}

fn leaves_of_the_vectors() -> Vec<Hash> {
    INPUTS.iter().map(|input| leaf_hash(&hex(input))).collect()
}

/// The definition of RFC 6962, section 2.1, as it stands there.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(naive_split(leaves.len()));
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

fn naive_split(entries: usize) -> usize {
    let mut split = 1;
    while split * 2 < entries {
        split *= 2;
    }
    split
}

/// `PATH(m, D[n])` of RFC 6962, section 2.1.1.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(naive_split(leaves.len()));
    let (mut path, other) = if index < left.len() {
        (naive_path(index, left), naive_root(right))
    } else {
        (naive_path(index - left.len(), right), naive_root(left))
    };
    path.push(other);
    path
}

/// Complete subtrees from the leaves alone.
fn nodes(leaves: &[Hash]) -> impl Fn(u32, u64) -> Option<Hash> {
    move |level, index| {
        let begin = usize::try_from(index << level).ok()?;
        leaves.get(begin..begin + (1 << level)).map(naive_root)
    }
}

fn some_leaves(entries: usize) -> Vec<Hash> {
    (0..entries).map(|i| leaf_hash(format!("entry {i}").as_bytes())).collect()
}

#[test]
fn roots_are_those_of_the_published_vectors() {
    let leaves = leaves_of_the_vectors();
    let mut tree = Frontier::new();
    for (size, expected) in ROOTS.iter().enumerate() {
        assert_eq!(tree.root(), hash(expected), "{size}");
        if let Some(leaf) = leaves.get(size) {
            tree.push(*leaf);
        }
    }
}

#[test]
fn proofs_are_those_of_the_published_vectors() {
    let leaves = leaves_of_the_vectors();
    let inclusion: [(u64, u64, &[&str]); 4] = [
        (0, 1, &[]),
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    ];
    for (index, size, expected) in inclusion {
        let expected: Vec<Hash> = expected.iter().map(|text| hash(text)).collect();
        assert_eq!(
            inclusion_proof(index, size, nodes(&leaves)).as_ref(),
            Some(&expected),
            "{index} of {size}"
        );
        let root = hash(ROOTS[usize::try_from(size).unwrap()]);
        assert!(verify_inclusion(
            index,
            size,
            &leaves[usize::try_from(index).unwrap()],
            &expected,
            &root
        ));
    }
}

#[test]
fn every_proof_of_small_trees_is_the_naive_one() {
    let leaves = some_leaves(40);
    for size in 1..=leaves.len() {
        let first = &leaves[..size];
        let root = naive_root(first);
        for index in 0..size {
            let expected = naive_path(index, first);
            let proof = inclusion_proof(index as u64, size as u64, nodes(&leaves)).unwrap();
            assert_eq!(proof, expected, "{index} of {size}");
            assert!(verify_inclusion(index as u64, size as u64, &leaves[index], &proof, &root));
            // No other place, size or leaf goes with it.
            for other in (0..size + 2).filter(|other| *other != index) {
                assert!(!verify_inclusion(other as u64, size as u64, &leaves[index], &proof, &root));
            }
        }
    }
    assert_eq!(inclusion_proof(40, 40, nodes(&leaves)), None);
}

#[test]
fn a_missing_subtree_gives_no_proof_and_no_panic() {
    let leaves = some_leaves(13);
    let known = nodes(&leaves);
    let without = |gone: (u32, u64)| move |level, index| if (level, index) == gone { None } else { known(level, index) };
    assert_eq!(inclusion_proof(3, 13, without((2, 1))), None);
}

#[test]
fn a_subtree_is_told_when_its_last_entry_arrives() {
    let leaves = some_leaves(700);
    let mut tree = Frontier::new();
    let mut told = Vec::new();
    for (i, leaf) in leaves.iter().enumerate() {
        if let Some(node) = tree.push(*leaf) {
            told.push((i, node));
        }
    }
    assert_eq!(told, [(255, naive_root(&leaves[..256])), (511, naive_root(&leaves[256..512]))]);
    let nodes: Vec<Hash> = told.into_iter().map(|(_, node)| node).collect();
    assert_eq!(Frontier::restore(700, &nodes, &leaves[512..]), Some(tree));
    for (nodes, tail) in [
        (&nodes[..1], &leaves[512..]),
        (&nodes[..], &leaves[513..]),
        (&nodes[..], &leaves[..]),
    ] {
        assert_eq!(Frontier::restore(700, nodes, tail), None);
    }
    let mut tree = Frontier::new();
    assert!(tree.push_subtree(nodes[0]));
    assert_eq!(tree.root(), nodes[0]);
    tree.push(leaves[256]);
    assert!(!tree.push_subtree(nodes[1]));
    assert_eq!(tree.size(), 257);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn proofs_of_larger_trees_are_the_naive_ones(size in 1_usize..3_000, at in any::<prop::sample::Index>()) {
        let leaves = some_leaves(size);
        let index = at.index(size);
        let root = naive_root(&leaves);
        let mut tree = Frontier::new();
        let mut subtrees = Vec::new();
        for leaf in &leaves {
            subtrees.extend(tree.push(*leaf));
        }
        prop_assert_eq!(tree.root(), root);
        let restored = Frontier::restore(size as u64, &subtrees, &leaves[subtrees.len() * 256..]);
        prop_assert_eq!(restored.map(|tree| tree.root()), Some(root));

        let mut proof = inclusion_proof(index as u64, size as u64, nodes(&leaves)).unwrap();
        prop_assert_eq!(&proof, &naive_path(index, &leaves));
        prop_assert!(verify_inclusion(index as u64, size as u64, &leaves[index], &proof, &root));

        // A proof with a hash too many, too few or of another value shows nothing.
        proof.push(root);
        prop_assert!(!verify_inclusion(index as u64, size as u64, &leaves[index], &proof, &root));
        proof.pop();
        if let Some(last) = proof.pop() {
            prop_assert!(!verify_inclusion(index as u64, size as u64, &leaves[index], &proof, &root));
            let mut other = last;
            other[31] ^= 1;
            proof.push(other);
            prop_assert!(!verify_inclusion(index as u64, size as u64, &leaves[index], &proof, &root));
        }
    }
}
