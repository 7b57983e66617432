package peers;

import java.nio.ByteBuffer;

/**
 * The mean of a carrier's delays over (t − 1 h, t], of rows that come in order of (time, id): a ring of
 * what is in the window, and its sum. Delays are whole minutes, so that sums are exact in any order.
 */
public class Window {
  private static final long LENGTH_MS = 3_600_000;

  public long[] times = new long[64];
  public float[] delays = new float[64];
  public int first, size;
  public double sum;

  /** Adds a row, and gives the mean with it. */
  public float add(long time, double delay) {
    while (size > 0 && times[first] <= time - LENGTH_MS) {
      sum -= delays[first];
      first = (first + 1) & (times.length - 1);
      size--;
    }
    if (size == times.length) grow();
    int place = (first + size) & (times.length - 1);
    times[place] = time;
    delays[place] = (float) delay;
    size++;
    sum += delay;
    return (float) (sum / size);
  }

  private void grow() {
    long[] moreTimes = new long[2 * size];
    float[] moreDelays = new float[2 * size];
    for (int i = 0; i < size; i++) {
      moreTimes[i] = times[(first + i) & (size - 1)];
      moreDelays[i] = delays[(first + i) & (size - 1)];
    }
    times = moreTimes;
    delays = moreDelays;
    first = 0;
  }

  public byte[] toBytes() {
    ByteBuffer bytes = ByteBuffer.allocate(size * (Long.BYTES + Float.BYTES));
    for (int i = 0; i < size; i++) {
      int place = (first + i) & (times.length - 1);
      bytes.putLong(times[place]).putFloat(delays[place]);
    }
    return bytes.array();
  }

  public static Window fromBytes(byte[] stored) {
    Window window = new Window();
    ByteBuffer bytes = ByteBuffer.wrap(stored);
    while (bytes.hasRemaining()) window.add(bytes.getLong(), bytes.getFloat());
    return window;
  }
}
