//! Tests of questions to a trail.
