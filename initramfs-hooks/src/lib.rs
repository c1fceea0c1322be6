//! Builds the standalone initramfs that holds the agent.
