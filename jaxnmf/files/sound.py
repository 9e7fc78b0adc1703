"""Sounds, as magnitude spectrograms."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf.files.labelled import ContentError, LabelledMatrix

SECONDS = 0.046  # of a window: 2048 samples at 44.1 kHz


def read_sound(
    place: Path, window: int | None = None, hop: int | None = None
) -> LabelledMatrix:
    """Read a .wav: |STFT|, frames × frequencies, with Hann windows, of the mean of the
    channels.

    Args:
      window: its length in samples; by default the power of two nearest to 46 ms.
      hop: samples from a window to the next; by default a quarter of a window.

    Raises:
      ContentError: the sound is cut off, or shorter than a window.
    """
    from scipy.io import wavfile
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)
        warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
        try:
            rate, sound = wavfile.read(place)
        except wavfile.WavFileWarning:
            raise ContentError("ends before its sound does; expected all of it") from (
                None
            )
    if window is None:
        window = 1 << max(round(float(np.log2(SECONDS * rate))), 1)
    hop = hop or max(window // 4, 1)
    full = float(np.iinfo(sound.dtype).max) if sound.dtype.kind in "iu" else 1.0
    sound = sound.astype(np.float64) / full
    if full == 255:  # 8 bits are from 0, silence at 128
        sound = 2 * sound - 256 / 255
    mono = sound if sound.ndim == 1 else sound.mean(1)
    if len(mono) < window:
        raise ContentError(
            f"has {len(mono)} samples, fewer than a window of {window}; set window"
        )
    transform: Any = ShortTimeFFT(hann(window, sym=False), hop, rate)
    last = transform.upper_border_begin(len(mono))[1]
    first = transform.lower_border_end[1]
    frames = transform.stft(mono, p0=first, p1=max(last, first + 1))
    times = np.arange(first, first + frames.shape[1]) * transform.delta_t
    return LabelledMatrix(
        np.abs(frames).T.astype(np.float32),
        tuple(f"{time:.4g}" for time in times),
        tuple(f"{hertz:g}" for hertz in transform.f),
        {"rate": int(rate), "window": window, "hop": hop},
    )
