package peers;

import java.io.IOException;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;

/** A departure, and what the model is given of it. Public fields: Flink sends it between threads as a POJO. */
public class Row {
  private static final JsonFactory JSON =
      JsonFactory.builder().enable(StreamReadFeature.USE_FAST_DOUBLE_PARSER).build();

  public String id = "", key = "", carrier = "", origin = "", dest = "";
  /** Event time, in ms since 1970. */
  public long time;
  public double delay, distance;
  public int hour, minute;
  public float[] features = new float[Features.COUNT];

  /** Takes over a message, a JSON object. */
  public void read(byte[] message) throws IOException {
    delay = 0;
    try (JsonParser parser = JSON.createParser(message)) {
      parser.nextToken();
      String name;
      while ((name = parser.nextFieldName()) != null) {
        if (parser.nextToken() == JsonToken.VALUE_NULL) continue;
        switch (name) {
          case "event_id" -> id = parser.getText();
          case "event_time" -> time = parser.getLongValue();
          case "tailnum" -> key = parser.getText();
          case "carrier" -> carrier = parser.getText();
          case "origin" -> origin = parser.getText();
          case "dest" -> dest = parser.getText();
          case "hour" -> hour = parser.getIntValue();
          case "minute" -> minute = parser.getIntValue();
          case "dep_delay" -> delay = parser.getDoubleValue();
          case "distance" -> distance = parser.getDoubleValue();
          default -> {}
        }
      }
    }
  }
}
