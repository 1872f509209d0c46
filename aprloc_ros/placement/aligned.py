"""Where a trajectory's frame lies for a map, how well both fit, and how far that is known."""

from dataclasses import dataclass

from torch import Tensor

from aprloc_ros.similarity import Similarity

_OPEN_M = 0.1   # standard deviation of the frame's place that is worth a warning


@dataclass(frozen=True, eq=False)
class Alignment:
    """change: from the map's frame to the trajectory's; T_cam_body [4, 4]: where the body that it is of sits."""

    change: Similarity
    R_cam_body: Tensor       # [3, 3]
    t_cam_body: Tensor       # [3]
    covariance: Tensor       # [7, 7]: log scale, rotation and translation of the change
    residuals_m: Tensor      # [N, 3] along the trajectory's axes
    residuals_deg: Tensor    # [N, 3] about them
    used: Tensor             # [N] bool: the others contradict the rest
    sd: Tensor               # [7] of the same as the covariance, by it, the movement that both saw or slow errors, whichever knows least
    is_upside_down: bool = False   # the cameras by it, where nothing but the trajectory's own z says so

    @property
    def off_m(self) -> float:
        """By which half of the poses are off, and more."""
        return self.residuals_m.norm(dim=1).median().item()

    @property
    def off_deg(self) -> float:
        return self.residuals_deg.norm(dim=1).median().item()

    def describe(self) -> str:
        """How well it fits, for the user."""
        rms_m = self.residuals_m[self.used].square().mean(0).sqrt()
        rms_deg = self.residuals_deg[self.used].square().mean(0).sqrt()
        turn_deg, along_m, height_m = self.sd[1:4].norm().rad2deg().item(), self.sd[4:6].norm().item(), self.sd[6].item()
        is_open = max(along_m, height_m) > _OPEN_M
        return (f'{int(self.used.sum())} of {len(self.used)} poses fit to {rms_m.norm():.3f} m RMS (x {rms_m[0]:.3f}, '
                f'y {rms_m[1]:.3f}, z {rms_m[2]:.3f}) and {rms_deg.norm():.2f} degrees (roll {rms_deg[0]:.2f}, pitch '
                f'{rms_deg[1]:.2f}, yaw {rms_deg[2]:.2f}); scale {self.change.scale:.5f} +- '
                f'{100 * self.change.scale_sd:.2g} %; the frame is known to {along_m:.3f} m along the floor, {height_m:.3f} m in height '
                f'and {turn_deg:.2f} degrees' + is_open * ('. WARNING: that leaves much open: record /tf_static from the body '
                                                       'whose poses these are to the camera, or drive farther, with curves')
                + self.is_upside_down * ('. WARNING: by this the camera is upside down: if it does not hang so, the trajectory is mirrored '
                                         '(left-handed axes), or its z points down; record /tf_static to the camera to make sure'))
