package peers;

import java.nio.charset.StandardCharsets;

import com.fasterxml.jackson.core.io.NumberOutput;

/** A score as it is written: the event's key, and a JSON object. Reused for row after row. */
public final class Prediction {
  private final StringBuilder text = new StringBuilder(128);
  private String key;

  /** Ids and keys of the flights are ASCII that JSON need not escape. */
  public void set(String id, String key, long time, float score) {
    this.key = key;
    text.setLength(0);
    text.append("{\"event_id\":\"").append(id).append("\",\"key\":\"").append(key);
    text.append("\",\"event_time\":").append(time);
    text.append(",\"score\":").append(NumberOutput.toString(score, true)).append('}');
  }

  public byte[] key() {
    return key.getBytes(StandardCharsets.ISO_8859_1);
  }

  public byte[] value() {
    return text.toString().getBytes(StandardCharsets.ISO_8859_1);
  }
}
