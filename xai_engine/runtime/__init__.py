"""Jobs, progress, cancellation, seeds, device and precision policy, worker processes. Knows no other
package."""
